#!/usr/bin/env nextflow
// Whether a deep network should be trained on each phenotype, and for how long: ntkpipe with kernel and fit in shares.

include { NTKPIPE } from './subworkflows/local/ntkpipe/main'

workflow {
    main:
    ['features', 'phenotypes'].each { name ->
        if (!params[name]) {
            error("no ${name} given: pass --${name} FILE")
        }
    }
    def optional = { name -> params[name] ? file(params[name], checkIfExists: true) : [] }
    def others = ['keep', 'remove', 'network', 'protein_names'].collect { name -> optional(name) }.flatten()
    def tables = channel.of([
        [id: params.name],
        file(params.features, checkIfExists: true),
        file(params.phenotypes, checkIfExists: true),
        optional('covariates'),
        others,
    ])
    NTKPIPE(tables, params.kernel_shares, params.fit_shares)
}

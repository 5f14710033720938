#!/usr/bin/env nextflow
// Whether a deep network should be trained on each phenotype, and for how long: ntkpipe with kernel and fit in shards.

include { NTKPIPE } from './subworkflows/local/ntkpipe/main'

// A file that may be left out.
def optional(path) {
    path ? file(path, checkIfExists: true) : []
}

workflow {
    main:
    ['features', 'phenotypes'].each { name ->
        if (!params[name]) {
            error("no ${name} given: pass --${name} FILE")
        }
    }
    def others = [params.keep, params.remove, params.network, params.protein_names].collect { path -> optional(path) }.flatten()
    def tables = channel.of([
        [id: params.name.toString()],
        file(params.features, checkIfExists: true),
        file(params.phenotypes, checkIfExists: true),
        optional(params.covariates),
        others,
    ])
    // Numbers of the command line are text from Nextflow 26.04 on.
    NTKPIPE(tables, params.kernel_shards.toInteger(), params.fit_shards.toInteger())

    channel
        .topic('versions')
        .unique()
        .map { name, tool, version -> "${name.tokenize(':').last()}:\n    ${tool}: ${version}" }
        .collectFile(name: 'software_versions.yml', storeDir: "${params.outdir}/pipeline_info", sort: true, newLine: true)
}

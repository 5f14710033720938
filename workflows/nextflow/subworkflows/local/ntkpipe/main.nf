// A whole run of ntkpipe, kernel and fit in shards.

include { NTKPIPE_INGEST        } from '../../../modules/local/ntkpipe/ingest/main'
include { NTKPIPE_KERNELSHARD   } from '../../../modules/local/ntkpipe/kernelshard/main'
include { NTKPIPE_KERNEL        } from '../../../modules/local/ntkpipe/kernel/main'
include { NTKPIPE_SPECTRUM      } from '../../../modules/local/ntkpipe/spectrum/main'
include { NTKPIPE_FITSHARD      } from '../../../modules/local/ntkpipe/fitshard/main'
include { NTKPIPE_FIT           } from '../../../modules/local/ntkpipe/fit/main'
include { NTKPIPE_PREDICT       } from '../../../modules/local/ntkpipe/predict/main'
include { NTKPIPE_CROSSVALIDATE } from '../../../modules/local/ntkpipe/crossvalidate/main'
include { NTKPIPE_REPORT        } from '../../../modules/local/ntkpipe/report/main'

// [meta, tables, parts] for each of the shards I/N.
def shards(run, n) {
    run.combine(channel.fromList((1..n).collect { i -> "${i}/${n}".toString() }))
}

// [meta, parts] of all shards of a run, in one order however they end: the next task's cache key depends on it.
def gathered(part, n) {
    part
        .groupTuple(size: n)
        .map { meta, names, parts -> [meta, [names, parts].transpose().sort { a, b -> a[0] <=> b[0] }.collect { pair -> pair[1] }] }
}

// [meta, tables, parts] with the parts that a stage adds.
def joined(run, part) {
    run.join(part).map { meta, tables, parts, more -> [meta, tables, [parts, more].flatten()] }
}

workflow NTKPIPE {
    take:
    tables         // [meta, features, phenotypes, covariates or [], others or []]
    kernel_shards  // number of jobs that the kernel is made by
    fit_shards     // number of jobs that the phenotypes are fitted by

    main:
    NTKPIPE_INGEST(tables)
    given = tables.map { meta, features, phenotypes, covariates, others -> [meta, [features, phenotypes, covariates, others].flatten()] }
    ingested = given.join(NTKPIPE_INGEST.out.part).map { meta, files, part -> [meta, files, [part]] }

    NTKPIPE_KERNELSHARD(shards(ingested, kernel_shards))
    tiled = joined(ingested, gathered(NTKPIPE_KERNELSHARD.out.part, kernel_shards))
    NTKPIPE_KERNEL(tiled)
    kernel = joined(tiled, NTKPIPE_KERNEL.out.part)

    NTKPIPE_SPECTRUM(kernel)
    spectral = joined(kernel, NTKPIPE_SPECTRUM.out.part)

    NTKPIPE_FITSHARD(shards(spectral, fit_shards))
    shared = joined(spectral, gathered(NTKPIPE_FITSHARD.out.part, fit_shards))
    NTKPIPE_FIT(shared)
    fitted = joined(shared, NTKPIPE_FIT.out.part)

    NTKPIPE_PREDICT(fitted)
    predicted = joined(fitted, NTKPIPE_PREDICT.out.part)
    NTKPIPE_CROSSVALIDATE(predicted)
    validated = joined(predicted, NTKPIPE_CROSSVALIDATE.out.part)
    NTKPIPE_REPORT(validated)

    emit:
    results = NTKPIPE_REPORT.out.results // [meta, folder]
}

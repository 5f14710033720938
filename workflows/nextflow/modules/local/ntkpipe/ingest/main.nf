// Reads the tables, matches their samples, standardises the features.
process NTKPIPE_INGEST {
    tag "${meta.id}"
    label 'process_low'

    conda "${moduleDir}/environment.yml"
    container "${params.container}"

    input:
    tuple val(meta), path(features), path(phenotypes), path(covariates), path(others)

    output:
    tuple val(meta), path("${prefix}"), emit: part
    tuple val("${task.process}"), val('ntkpipe'), eval("ntkpipe --version | sed 's/.* //'"), topic: versions, emit: versions_ntkpipe

    when:
    task.ext.when == null || task.ext.when

    script:
    def args = task.ext.args ?: ''
    def memory = task.memory ? "--memory ${task.memory.toMega() * 4 / 5}MB" : ''
    def with_covariates = covariates ? "--covariates ${covariates}" : ''
    prefix = task.ext.prefix ?: "${meta.id}"
    """
    ntkpipe \\
        ingest \\
        --features ${features} \\
        --phenotypes ${phenotypes} \\
        ${with_covariates} \\
        --out ${prefix} \\
        --threads ${task.cpus} \\
        ${memory} \\
        ${args}

    ntkpipe-parts keep ${prefix}
    """

    stub:
    prefix = task.ext.prefix ?: "${meta.id}"
    """
    mkdir -p ${prefix}/features.zarr
    touch ${prefix}/run.json ${prefix}/samples.parquet ${prefix}/features.parquet ${prefix}/features.zarr/zarr.json
    """
}

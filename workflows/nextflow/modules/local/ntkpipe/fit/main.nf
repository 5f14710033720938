// Puts the shards of the fit together.
process NTKPIPE_FIT {
    tag "${meta.id}"
    label 'process_medium'

    conda "${moduleDir}/environment.yml"
    container "${params.container}"

    input:
    tuple val(meta), path(tables), path(parts, stageAs: 'parts?/*')

    output:
    tuple val(meta), path("${prefix}"), emit: part
    tuple val("${task.process}"), val('ntkpipe'), eval("ntkpipe --version | sed 's/.* //'"), topic: versions, emit: versions_ntkpipe

    when:
    task.ext.when == null || task.ext.when

    script:
    def args = task.ext.args ?: ''
    def memory = task.memory ? "--memory ${task.memory.toMega() * 4 / 5}MB" : ''
    prefix = task.ext.prefix ?: "${meta.id}"
    """
    ntkpipe-parts join ${prefix} ${parts}

    ntkpipe \\
        fit \\
        --join-shards \\
        --out ${prefix} \\
        --threads ${task.cpus} \\
        ${memory} \\
        ${args}

    ntkpipe-parts keep ${prefix} ${parts}
    """

    stub:
    prefix = task.ext.prefix ?: "${meta.id}"
    """
    mkdir -p ${prefix}/model
    touch ${prefix}/run.json ${prefix}/fit.parquet ${prefix}/phenotypes.parquet ${prefix}/phenotypes.tsv ${prefix}/curves.parquet
    """
}

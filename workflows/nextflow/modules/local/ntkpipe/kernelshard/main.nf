// Computes a shard of the kernel's tiles.
process NTKPIPE_KERNELSHARD {
    tag "${meta.id} ${shard}"
    label 'process_high'

    conda "${moduleDir}/environment.yml"
    container "${params.container}"

    input:
    tuple val(meta), path(tables), path(parts, stageAs: 'parts?/*'), val(shard)

    output:
    tuple val(meta), val(shard), path("${prefix}"), emit: part
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
        kernel \\
        --shard ${shard} \\
        --out ${prefix} \\
        --threads ${task.cpus} \\
        ${memory} \\
        ${args}

    ntkpipe-parts keep ${prefix} ${parts}
    """

    stub:
    prefix = task.ext.prefix ?: "${meta.id}"
    """
    mkdir -p ${prefix}/kernel.zarr ${prefix}/shards
    touch ${prefix}/kernel.zarr/zarr.json ${prefix}/shards/kernel-${shard.replace('/', '-of-')}
    """
}

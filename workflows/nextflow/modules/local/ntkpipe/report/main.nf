// Writes the report and collects the results.
process NTKPIPE_REPORT {
    tag "${meta.id}"
    label 'process_single'

    conda "${moduleDir}/environment.yml"
    container "${params.container}"

    input:
    tuple val(meta), path(tables), path(parts, stageAs: 'parts?/*')

    output:
    tuple val(meta), path("results"), emit: results
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
        report \\
        --out ${prefix} \\
        --threads ${task.cpus} \\
        ${memory} \\
        ${args}

    mkdir results
    for name in report.html ntkpipe_mqc.json phenotypes.parquet phenotypes.tsv curves.parquet \\
        predictions.parquet predictions_oof.parquet prediction_sd.parquet samples.parquet features.parquet \\
        model run.json run.log; do
        [ ! -e "${prefix}/\$name" ] || cp -rL "${prefix}/\$name" results/
    done
    """

    stub:
    prefix = task.ext.prefix ?: "${meta.id}"
    """
    mkdir -p results/model
    touch results/report.html results/ntkpipe_mqc.json results/phenotypes.parquet results/phenotypes.tsv \\
        results/curves.parquet results/predictions.parquet results/samples.parquet results/features.parquet results/run.json
    """
}

# Which noise protects against which image modification? See README.md.
import os
import sys

sys.path.insert(0, str(Path(workflow.basedir) / "scripts"))
# jobs run the Python that runs Snakemake, unless a conda environment puts its own before it
os.environ.update(
    PATH=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
)

from snakemake.exceptions import WorkflowError

from noisetransfer import config as schema
from noisetransfer.datasets import in_place
from noisetransfer.environment import VARIABLES
from noisetransfer.errors import StudyError

for name, value in VARIABLES.items():
    os.environ.setdefault(name, value)

# a study is one whole file: config.yaml must not leak its keys into another study
if not workflow.overwrite_configfiles:

    configfile: "config.yaml"


try:
    STUDY = schema.load(config, " + ".join(map(str, workflow.configfiles)))
    # jobs elsewhere need not see the folders of the user
    if workflow.is_main_process:
        for name, section in STUDY.datasets.items():
            in_place(section.id or name, section.folder)
        schema.require_files(STUDY)
except StudyError as error:
    raise WorkflowError(str(error)) from None


include: "rules/common.smk"
include: "rules/retrieve.smk"
include: "rules/networks.smk"
include: "rules/modify.smk"
include: "rules/covariance.smk"
include: "rules/noise.smk"
include: "rules/evaluate.smk"
include: "rules/geometry.smk"
include: "rules/report.smk"


rule all:
    default_target: True
    input:
        REPORT,
        # named, though the report needs them too: else nobody sees that one was deleted
        f"{RESULTS}/provenance.json",
        contact_sheets(),
        [path for experiment in STUDY.experiments for path in results_of(experiment)],
    localrule: True


for name in STUDY.experiments:
    if workflow.is_rule(name):
        raise WorkflowError(f"experiments.{name}: a rule has this name, choose another")

    rule:
        name:
            name
        input:
            results_of(name),
        localrule: True


onsuccess:
    print("\nDone. Heatmaps and tables:")
    for name in STUDY.experiments:
        for path in headlines_of(name):
            if Path(path).exists():
                print(f"  {path}")
    if Path(REPORT).exists():
        print(f"Report: {REPORT}")

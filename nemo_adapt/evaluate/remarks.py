"""What the report says below its tables where numbers are not quite comparable."""

from nemo_adapt.evaluate import languages
from nemo_adapt.evaluate.report import Report
from nemo_adapt.evaluate.tables import task_name


def unknown(report: Report) -> list[str]:
    """Return a line for each text that some model's tokenizer cannot spell."""
    found = []
    for language in report["scores"][report["models"][0]]:
        counts = {name: report["scores"][name][language]["unknown"] for name in report["models"]}
        if said := ", ".join(f"{name} {count}" for name, count in counts.items() if count):
            found.append(
                f"{languages.name(language)} holds text that a tokenizer cannot spell (unknown tokens: {said}). Such "
                "tokens cost fewer bits than the text they hide."
            )
    return found


def chosen(report: Report) -> list[str]:
    """Return a line if the adapted model was chosen by a score on a text that it is measured on."""
    if "exported" not in report["training"]:
        return []
    language = languages.name(report["target"])
    return [
        f"The adapted model is the checkpoint that scored best on {language} while it was trained "
        "(export.checkpoint=best): its bits per byte there are a little better than on text that it was not chosen by."
    ]


def dtypes(report: Report) -> list[str]:
    """Return a line if the models were measured in different dtypes."""
    found = {name: fact["dtype"] for name, fact in report["cost"].items()}
    if len(set(found.values())) == 1:
        return []
    said = ", ".join(f"{name} {dtype}" for name, dtype in found.items())
    return [
        f"The models were measured in the dtypes of their files, which are not the same ({said}): speeds, times and "
        "memory differ by that too, and not only by tokenizer and model."
    ]


def cut(report: Report) -> list[str]:
    """Return a line for each model that did not read all of a task's prompts."""
    found = []
    for name in report["models"]:
        counts = {task: report["task_scores"][name][task].get("cut", 0) for task in report["task_list"]}
        tasks = [
            f"{task_name(task, about)} {counts[task]:,} of {about['examples']:,}"
            for task, about in report["task_list"].items()
            if counts[task]
        ]
        if tasks:
            found.append(
                f"{name}: prompts that were too long for the model lost their beginning ({', '.join(tasks)}). With "
                "fewer examples shown (evaluate.shots) all models read the same."
            )
    return found

"""What a notebook asks for, and which of a student's cells answer it.

A task of code is a solution cell and the check cells that follow it, each with its own points; a question is a text
cell with points. All of this is in nbgrader's metadata of the source.
"""

import re
from dataclasses import dataclass, field
from functools import cached_property

from nbformat import NotebookNode

from ex5lib.course.handin import NO_ANSWER
from scripts.assignment import CODE_STUB, student_copy

_DEFINES = re.compile(r"^(?:(?:async\s+)?def|class)\s+(\w+)|^(\w+)\s*(?::[^=\n]+)?=(?!=)", re.M)
_CHECKS = re.compile(r"^with check\(", re.M)
_MODEL = re.compile(r"### BEGIN SOLUTION[^\n]*\n(.*?)\n[^\n]*### END SOLUTION", re.S)
UNWRITTEN = CODE_STUB.splitlines()[-1]

# Ways around a check. They may have a good reason, so that a person looks.
_ODD = re.compile(r"_getframe|\bgc\.|\bsettrace|\bsetprofile|\bos\._exit|\binspect\.|\bCheckFailed\b|\bmonkeypatch")


@dataclass(frozen=True)
class Check:
    """A cell that gives all of its points or none."""

    name: str  # its grade_id
    points: float
    code: str  # with the hidden tests


@dataclass(frozen=True)
class Task:
    """Something that students program."""

    name: str  # the solution cell's grade_id
    stub: str
    defines: frozenset[str]
    checks: list[Check] = field(default_factory=list)


@dataclass(frozen=True)
class Question:
    """Something that students answer in words, which a person reads."""

    name: str
    points: float
    text: str  # up to where the answer begins
    model: str  # the answer of the source


@dataclass(frozen=True)
class Given:
    """A code cell of the source."""

    role: str  # "setup", "task", "check" or "other"
    name: str  # the grade_id; for a set-up, its number among the set-ups
    text: str  # as students get it


@dataclass(frozen=True)
class Step:
    """What marking runs."""

    kind: str  # "own": the student's code; "setup": what the set-up of that name defines; "check"
    name: str  # of the task, set-up or check; "" for a student's other cells
    code: str
    cell: float  # its place among the student's cells, from 1


@dataclass
class Plan:
    """What to run of one student's notebook, and what there is to read."""

    steps: list[Step] = field(default_factory=list)
    given: dict[str, Step] = field(default_factory=dict)  # by what they define: cells that are as they were given
    answers: dict[str, str] = field(default_factory=dict)  # question's name: what was answered
    odd: list[str] = field(default_factory=list)  # for a person to look at


class Scheme:
    """What one notebook asks for."""

    def __init__(self, notebook: str, source: NotebookNode):
        self.notebook, self.source = notebook, source
        self.tasks: list[Task] = []
        self.questions: list[Question] = []
        self.setups: list[str] = []
        self.given: list[Given] = []
        self._texts: set[str] = set()  # of cells that are no code
        self._by_id: dict[str, Given] = {}
        for cell, copied in zip(source.cells, student_copy(source).cells, strict=True):
            about = cell.metadata.get("nbgrader", {})
            name = about.get("grade_id", "")
            if cell.cell_type == "markdown" and about.get("grade"):
                model = "\n".join(_MODEL.findall(cell.source))
                text = copied.source.partition(NO_ANSWER)[0].strip()
                self.questions.append(Question(name, about["points"], text, model.replace("-->", "").strip()))
            if cell.cell_type != "code":
                self._texts.add(_plain(copied.source))
                continue
            role = "other"
            if about.get("solution"):
                role = "task"
                self.tasks.append(Task(name, copied.source, defined(copied.source)))
            elif about.get("grade"):
                role = "check"
                self.tasks[-1].checks.append(Check(name, about["points"], cell.source))
            elif "setup" in cell.metadata.get("tags", ()):
                role, name = "setup", str(len(self.setups))
                self.setups.append(cell.source)
            self.given.append(Given(role, name, copied.source))
            self._by_id[cell.id] = self.given[-1]

    @cached_property
    def _by_text(self) -> dict[str, Given]:
        return {_plain(given.text): given for given in self.given}

    @cached_property
    def _by_name(self) -> dict[str, Given]:
        return {given.name: given for given in self.given if given.role in ("task", "check")}

    @cached_property
    def checks(self) -> dict[str, tuple[Task, Check]]:
        return {check.name: (task, check) for task in self.tasks for check in task.checks}

    def plan(self, handed: NotebookNode) -> Plan:
        """What to run of a student's notebook: everything that is theirs, in their order, up to the last check.

        Cells that are as they were given do not run, unless a name of theirs is missed, or they are set-ups or checks,
        which are taken from the source. A task's stub does not run either if the same task was written in another cell.
        """
        plan = Plan(answers=self._answers(handed))
        code = [(n, cell) for n, cell in enumerate(handed.cells, start=1) if cell.cell_type == "code"]
        checked: dict[str, list[int]] = {}
        for number, cell in code:
            given = self._given(cell)
            if given is None:
                plan.steps.append(Step("own", "", cell.source, number))
                continue
            changed = _plain(cell.source) != _plain(given.text)
            if given.role == "check":
                checked.setdefault(given.name, []).append(number)
                if changed:
                    plan.odd.append(f"cell {number}: the check {given.name} was changed; the original one counts")
            elif changed or given.role == "task":
                plan.steps.append(Step("own", given.name if given.role == "task" else "", cell.source, number))
            elif given.role == "other":
                plan.given |= dict.fromkeys(defined(cell.source), Step("own", "", cell.source, number))
            if given.role == "setup":
                plan.steps.append(Step("setup", given.name, "", number))
        for task in self.tasks:
            written = [step for step in plan.steps if step.kind == "own" and step.name == task.name]
            new = [step for step in written if _plain(step.code) != _plain(task.stub)]
            plan.steps = [step for step in plan.steps if not new or step not in written or step in new]
            for check in task.checks if written else ():
                places = [n for n in checked.get(check.name, ()) if n > (new or written)[0].cell]
                place = places[0] if places else (new or written)[-1].cell + 0.5
                plan.steps.append(Step("check", check.name, check.code, place))
        plan.steps.sort(key=lambda step: step.cell)
        last = max((i for i, step in enumerate(plan.steps) if step.kind == "check"), default=-1)
        plan.steps = plan.steps[: last + 1]
        for step in plan.steps:
            if step.kind == "own":
                plan.odd += [f"cell {step.cell} has {found}" for found in sorted(set(_ODD.findall(step.code)))]
        return plan

    def _given(self, cell: NotebookNode) -> Given | None:
        """The source's cell that a student's cell is, changed or not; None if it is the student's own."""
        if (same := self._by_text.get(_plain(cell.source))) is not None:
            return same
        name = cell.metadata.get("nbgrader", {}).get("grade_id", "")
        given = self._by_name.get(name) or self._by_id.get(cell.get("id") or cell.metadata.get("id"))  # Colab's place
        if given is None:
            names = defined(cell.source)
            task = next((task for task in self.tasks if task.defines & names), None)
            return self._by_name[task.name] if task else None
        # An editor that splits or copies a cell copies its metadata, too.
        return None if given.role == "check" and not _CHECKS.search(cell.source) else given

    def _answers(self, handed: NotebookNode) -> dict[str, str]:
        """What stands in the cells of the questions, and in the student's own cells below them."""
        answers: dict[str, str] = {}
        reading = ""
        for cell in handed.cells:
            named = cell.metadata.get("nbgrader", {}).get("grade_id", "")
            question = next((q for q in self.questions if q.name == named or cell.source.startswith(q.text)), None)
            if question is not None:
                reading, text = question.name, cell.source.removeprefix(question.text).replace(NO_ANSWER, "")
            elif self._is_own(cell):
                text = f"```python\n{cell.source}\n```" if cell.cell_type == "code" and cell.source else cell.source
            else:
                reading = ""
            if reading:
                answers[reading] = f"{answers.get(reading, '')}\n\n{text.strip()}".strip()
        return answers

    def _is_own(self, cell: NotebookNode) -> bool:
        return self._given(cell) is None if cell.cell_type == "code" else _plain(cell.source) not in self._texts


def defined(code: str) -> frozenset[str]:
    """The names that code defines at its top level, also if it has an error."""
    return frozenset(function or name for function, name in _DEFINES.findall(code))


def _plain(code: str) -> str:
    return "\n".join(line.rstrip() for line in code.strip().splitlines())

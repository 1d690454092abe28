"""What is asked for when a photo is restored: the first mode's counterpart of ``Choice``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from torch import Tensor, nn

from ex5lib.degradations.known import Identity, Inpaint
from ex5lib.errors import SettingError, unknown_name
from ex5lib.explorer.damage import BY_NAME, name_of, offered_switches, suffered
from ex5lib.explorer.marks import Marks
from ex5lib.explorer.subjects import Subject
from ex5lib.faces.alignment import AlignedFace
from ex5lib.restoration.diagnosis import all_of

LABELS = {"fast": "Quick", "best": "Thorough"}  # of recipes that a person may want


@dataclass(frozen=True)
class Order:
    """Everything that distinguishes one restored photo from another.

    Attributes:
        recipe: its name.
        seed: of the search.
        face: which of the faces; None: all that are certain.
        switched: {kind of damage: whether it is treated}, where a person has decided.
        marks: what is marked by hand.
    """

    recipe: str = "fast"
    seed: int = 0
    face: int | None = 0
    switched: dict[str, bool] = field(default_factory=dict)
    marks: Marks = field(default_factory=Marks)

    def switching(self, damage: str, on: bool, subjects: Sequence[Subject]) -> "Order":
        """With a kind of damage switched on or off; SettingError if there is no such kind."""
        if damage not in BY_NAME:
            raise unknown_name("damage", damage, BY_NAME)
        other = BY_NAME[damage][1].excludes
        switched = self.switched | {damage: on} | ({other: False} if on and other else {})
        found = [set(map(name_of, each.damages)) for each in self.chosen(subjects)]
        # What a switch says anyway is no decision: switched off and on again, it is the same order.
        decided = {name: on for name, on in switched.items() if any((name in each) != on for each in found)}
        return replace(self, switched=decided)

    def picking(self, face: int | None) -> "Order":
        """For another face, whose damage is its own."""
        return replace(self, face=face, switched={})

    def chosen(self, subjects: Sequence[Subject]) -> list[Subject]:
        """The faces that are meant."""
        if self.face is not None:
            return list(subjects[self.face : self.face + 1])
        return [subject for subject in subjects if subject.sure] or list(subjects[:1])

    def holes(self, subjects: Sequence[Subject]) -> list[tuple[AlignedFace, Tensor]]:
        """The faces in which scratches or the like were found, unless that is switched off, each with its hole."""
        return [
            (each.face, damage.degradation.get_buffer("mask"))
            for each in self.chosen(subjects)
            for damage in each.damages
            if isinstance(damage.degradation, Inpaint) and self.switched.get("Inpaint", True)
        ]

    def has_reason(self, subjects: Sequence[Subject]) -> bool:
        """Whether there is damage to treat."""
        return bool(self.marks) or any(suffered(each.damages, self.switched) for each in self.chosen(subjects))

    def work(self, subjects: Sequence[Subject]) -> list[tuple[AlignedFace, nn.Module]]:
        """The faces to search for, each with its degradation.

        Raises:
            SettingError: if there is nothing to do, or what is marked lies on none of the faces, or covers one.
        """
        chosen = self.chosen(subjects)
        marked = [self.marks.on(each.face) for each in chosen]
        if self.marks and not any(part is not None for part in marked):
            raise SettingError(
                "What is marked lies outside the outline around the face: mark damage inside it, or pick another face."
            )
        pairs = zip(chosen, marked, strict=True)
        work = [(each.face, all_of(suffered(each.damages, self.switched, part))) for each, part in pairs]
        if self.face is None:  # as with --all-faces, sound faces are left alone
            work = [(face, D) for face, D in work if D is not None]
            if not work:
                raise SettingError("No damage was found in these faces: switch on what you see.")
        return [(face, D or Identity()) for face, D in work]

    def switches(self, subjects: Sequence[Subject]) -> list[dict]:
        """What the page offers to switch on and off; nothing without a photo."""
        found = [each.damages for each in self.chosen(subjects)]
        return offered_switches(found, self.switched) if found else []


def offered_recipes(names: Sequence[str], took: Mapping[str, str]) -> list[dict]:
    """Recipes for a page to offer, with about how long each takes, if that is known."""
    return [
        {"name": name, "label": LABELS.get(name, name), "time": f"about {took[name]} a face" if took else ""}
        for name in names
    ]

"""`observe.teacher_student`: two networks that see a view each."""

from __future__ import annotations

from assl_lightning.base.arguments import whole_number
from assl_lightning.method.contracts import TrainingStep
from assl_lightning.method.view_scores import Views
from assl_lightning.observe.hooked_views import HookedViews, Rows, check_rows, rows_of
from assl_lightning.observe.module_calls import ModuleCalls


class teacher_student(HookedViews):  # noqa: N801
    """Take the weak view's predictions from a teacher, and the strong view's from its student.

    For Mean Teacher (CuriousAI's and its ports), Unbiased Teacher, Meta Pseudo Labels, DINO and BYOL with class
    outputs: an averaged copy of the network sees one view of each sample, and the network another one.

    Args:
        teacher: dotted name of the part that sees the weak view, as in `named_modules()`.
        student: dotted name of the part that sees the strong view.
        teacher_call: number of the teacher's call in `training_step`, from 0 on.
        student_call: number of the student's call.
        rows: which rows of both calls belong to the scored samples: "all", or the "first" or "last" of calls that have
            labelled rows too.
        output: key, position or attribute of the logits, where the parts return several things.
        features: see `HookedViews`; a part of the teacher or the student, called as often as the teacher.
        head: see `HookedViews`.
        stream: see `HookedViews`.
        from_probabilities: see `HookedViews`.

    >>> teacher_student("ema_model", "model").gives_features
    False
    """

    def __init__(
        self,
        teacher: str,
        student: str,
        *,
        teacher_call: int = 0,
        student_call: int = 0,
        rows: Rows = "all",
        output: str | int | None = None,
        features: str | None = None,
        head: str | None = None,
        stream: str | None = None,
        from_probabilities: bool = False,
    ) -> None:
        super().__init__(
            features=features, head=head, stream=stream, labelled_stream=None, from_probabilities=from_probabilities
        )
        self.teacher_call = whole_number("teacher_call", teacher_call)
        self.student_call = whole_number("student_call", student_call)
        self.rows = check_rows(rows)
        self._teacher = self.watch(ModuleCalls(teacher, output))
        self._student = self.watch(ModuleCalls(student, output))

    def find(self, step: TrainingStep) -> Views | None:
        """Return the rows of the teacher's and the student's call."""
        self.end_step()
        if self.is_left_out(step):
            return None
        index = self.index(step)
        count = len(index)
        weak = rows_of(self._teacher.predictions(self.teacher_call), count, self.rows, "the teacher's call")
        strong = rows_of(self._student.predictions(self.student_call), count, self.rows, "the student's call")
        features = self.scored_features(self.teacher_call, count, self.rows)
        return Views(index, weak, strong, features)

"""Labels by people: the batch that they are asked, the ledger of their answers, and the tools that they use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from assl_lightning.base.faces import make_face

if TYPE_CHECKING:
    from assl_lightning.data.answers import Answer as Answer
    from assl_lightning.data.answers import Incoming as Incoming
    from assl_lightning.people.label_studio.exchange import labels_by_label_studio as labels_by_label_studio
    from assl_lightning.people.ledger import Ledger as Ledger
    from assl_lightning.people.oracle import LabellingTool as LabellingTool
    from assl_lightning.people.oracle import People as People
    from assl_lightning.people.tools import LabelsByFile as LabelsByFile
    from assl_lightning.people.tools import LabelsByPage as LabelsByPage

__getattr__, __dir__ = make_face(
    __name__,
    {
        "data.answers": ["Answer", "Incoming"],
        "people.label_studio.exchange": ["labels_by_label_studio"],
        "people.ledger": ["Ledger"],
        "people.oracle": ["LabellingTool", "People"],
        "people.tools": ["LabelsByFile", "LabelsByPage"],
    },
)

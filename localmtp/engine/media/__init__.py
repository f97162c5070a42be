"""Images and sound in prompts: ids that stand for their rows, and the rows, encoded when needed."""

from localmtp.engine.media.encoder import MediaEncoder, PlacedMedia, RowPiece
from localmtp.engine.media.ids import MAX_ROWS, is_row, media_ids, row_number, surplus_rows

__all__ = [
    "MAX_ROWS",
    "MediaEncoder",
    "PlacedMedia",
    "RowPiece",
    "is_row",
    "media_ids",
    "row_number",
    "surplus_rows",
]

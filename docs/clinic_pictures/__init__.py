"""The pictures of docs/clinic.md, one file each: `collect` makes the numbers of a picture, `draw` the picture."""

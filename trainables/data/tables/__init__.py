"""From a folder, a CSV or an unpacked benchmark to one table: a row an image."""

"""From picture files to one array of pixels that is decoded once."""

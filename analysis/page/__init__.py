"""The page: answer, tables, sections, and how they become one file."""

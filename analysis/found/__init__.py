"""What a report is made from: runs, finals, knobs."""

"""What a study leaves: its folder, its trials, and the images that they are judged on."""

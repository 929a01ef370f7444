"""Images → embeddings → distances → ranking → AP, and the losses that train them.

Only `trainable.py` imports Ray.
"""

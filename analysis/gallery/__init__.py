"""A study's network in use: any picture, any gallery, the nearest."""

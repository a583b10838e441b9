"""Tasks and what they are made of: images, preprocessing, splits, views, batches."""

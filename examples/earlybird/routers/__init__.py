"""One module per part of the delivery business."""

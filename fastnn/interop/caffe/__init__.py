"""Caffe's networks: read from a prototxt and a caffemodel, and written as such."""

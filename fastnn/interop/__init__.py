"""Networks that other systems have trained: Keras, Caffe, Torch7, Theano and Mocha."""

"""MesaNet: recurrent mixers that solve least squares at every token, and anchors that route."""

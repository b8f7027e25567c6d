"""Adapters: a neighbour's class names, signatures and tensor shapes over this package's exact rotation.

Code written for a neighbour runs with its import line alone changed. Each module says where it differs on purpose.
None is loaded before it is asked for:

    from rope_lab.interop import rotary_embedding_torch, local_attention, labml_nn, keras, huggingface
"""

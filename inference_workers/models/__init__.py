"""What a model is before anything of it is loaded: where its files are, what lies in them, whether they are the ones
that were asked for, what its weights say of themselves and how much memory they will take. Then its tokeniser, and what
it is called and can do while it serves (`servable`). No weight is read here, and no torch.
"""

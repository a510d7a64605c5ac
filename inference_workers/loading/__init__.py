"""From what a model is called to a model that may serve: asked for memory and damage before it is loaded
(`preflight`), then loaded, warmed up and golden-checked (`load`); `check` goes the same way for `inferwatch model
check`.
"""

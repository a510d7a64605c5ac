"""Images that requests name: read from a local folder on threads of their own, judged before they are decoded, made
into what the model's recipe wants. The door to Pillow.
"""

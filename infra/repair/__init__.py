"""Dead letters looked at and put back: what people do after a fix."""

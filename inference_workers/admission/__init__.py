"""From a record of the request topic to a request that waits in its lane: decoded, routed, tokenised, its images
read; or the reason why it is not computed (`admit`). Which of those that wait go together is planned in `batching`.
"""

"""What goes back to Kafka: an answer, a failure, a shed event or a dead letter for every consumed offset, once; also
for requests that come again after another worker died with them.
"""

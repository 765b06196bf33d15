"""The sinks that come with corelab: what they are told about a run they show or write down."""

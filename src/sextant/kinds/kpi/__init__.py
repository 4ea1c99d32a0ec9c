"""KPIs: business numbers. A version is a definition; its values are a dataset."""

"""What every HTTP endpoint and every HTTP client of Sextant shares."""

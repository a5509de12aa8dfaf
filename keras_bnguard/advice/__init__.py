"""Which BN policy suits the user's data: `advise` and its trial trainings."""

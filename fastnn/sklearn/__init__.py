"""Estimators for scikit-learn whose networks fastnn trains."""

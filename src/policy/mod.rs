//! Pure decisions; time and randomness are arguments. Siblings do not call each other.

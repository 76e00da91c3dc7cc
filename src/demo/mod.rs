//! `lyre demo`: a whole pair on one machine, in namespaces it makes itself, broken in turn.

//! millstream-cluster.

//! millstream-pipeline.

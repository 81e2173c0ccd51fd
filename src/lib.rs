//! `dbtrigger` lets Databricks Workflows run dbt Cloud jobs.

pub mod sandbox;

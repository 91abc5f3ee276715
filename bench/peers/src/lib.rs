//! Event stores of others beside Daybook's journal. There is nothing here but tests: what they need
//! (postgres-es, and the sqlx of its choice) must not reach the workspace that ships.

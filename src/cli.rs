//! The subcommands.
pub mod mock_agent;

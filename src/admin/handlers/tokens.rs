//! Who may do what.

use std::time::SystemTime;

use axum::Json;
use axum::extract::State;

use crate::admin::AdminState;
use crate::admin::error::Problem;
use crate::admin::query::Fields;
use crate::admin::wire::TokenView;

pub async fn list(State(state): State<AdminState>, fields: Fields) -> Result<Json<Vec<TokenView>>, Problem> {
    fields.end()?;
    let tokens = state.auth.tokens().await.map_err(|_| Problem::tokens_unreadable())?;
    let now = SystemTime::now();
    Ok(Json(tokens.iter().map(|token| TokenView::new(token, now)).collect()))
}

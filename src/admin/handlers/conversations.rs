//! Conversations that are held to a version.

use axum::Json;
use axum::extract::State;

use super::place::Place;
use crate::admin::AdminState;
use crate::admin::error::Problem;
use crate::admin::order::Ordered;
use crate::admin::wire::{ConversationView, ConversationsView};

pub async fn list(State(state): State<AdminState>, place: Place) -> Result<Json<ConversationsView>, Problem> {
    let key = place.key(&state.control.table().load_full())?;
    let (versions, draining) = (state.control.conversations(&key), state.control.draining(&key));
    Ok(Json(ConversationsView::new(&key, &versions, &draining, &state.control.pins().stats())))
}

pub async fn show(State(state): State<AdminState>, place: Place) -> Result<Json<ConversationView>, Problem> {
    let key = place.key(&state.control.table().load_full())?;
    let conversation = state.control.conversation(&key, &place.conversation)?;
    Ok(Json(ConversationView::new(&key, &conversation)))
}

pub async fn unpin(State(state): State<AdminState>, ordered: Ordered) -> Result<Json<ConversationView>, Problem> {
    let key = ordered.place.key(&state.control.table().load_full())?;
    let order = ordered.terms.order(None);
    let conversation = state.control.unpin(&key, &ordered.place.conversation, order).await?;
    Ok(Json(ConversationView::new(&key, &conversation)))
}

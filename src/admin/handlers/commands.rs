//! The commands on deployments: wire → order → wire. Each answers with what it came to.

use axum::Json;
use axum::extract::{FromRequest, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::admin::AdminState;
use crate::admin::body::Body;
use crate::admin::error::{FieldError, Problem};
use crate::admin::order::{Ordered, OrderedAll, etag};
use crate::admin::wire::{Done, EmergencyRequest, FromBody, ReasonRequest, RollbackRequest, WeightRequest};
use crate::control::command::{self, Command};
use crate::control::model::DeploymentId;
use crate::routing::ids::EnvironmentId;

/// A body of a fixed shape; none counts as an empty one.
pub struct Read<T>(pub T);

impl<T: FromBody, S: Send + Sync> FromRequest<S> for Read<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let mut body = Body::from_request(request, state).await?;
        let read = T::read(&mut body);
        body.end().map(|()| Self(read))
    }
}

pub async fn create(State(state): State<AdminState>, ordered: Ordered, mut body: Body) -> Result<Response, Problem> {
    let table = state.control.table().load_full();
    let agent = ordered.place.find(&table)?;
    let reason = body.reason();
    let request = (state.form.read)(body.rest(), &agent.spec).map_err(|errors| {
        body.also(errors.into_iter().map(FieldError::from));
    });
    body.end()?;
    // Without a request there were errors, and they have been told.
    let Ok(request) = request else { return Err(Problem::bad_request("the body is no deployment")) };
    let dry_run = ordered.terms.dry_run;
    let done = order(&state, ordered, reason, Command::Create(Box::new(request))).await?;
    let id = done.view.as_ref().map(|view| view.deployment.id()).filter(|_| !dry_run);
    let mut response = answer(&done, dry_run);
    if let Some(id) = id {
        *response.status_mut() = StatusCode::CREATED;
        let (agent, environment) = (&done.key.agent, &done.key.environment);
        let location = format!("/api/v1/agents/{agent}/deployments/{id}?environment={environment}");
        // Names that no header can carry are none that the configuration takes.
        if let Ok(location) = HeaderValue::try_from(location) {
            response.headers_mut().insert(header::LOCATION, location);
        }
    }
    Ok(response)
}

/// Those that want nothing but a reason.
macro_rules! plain {
    ($($name:ident $command:expr;)*) => {$(
        pub async fn $name(
            State(state): State<AdminState>,
            ordered: Ordered,
            Read(ReasonRequest { reason }): Read<ReasonRequest>,
        ) -> Result<Response, Problem> {
            act(&state, ordered, reason, $command).await
        }
    )*};
}

plain! {
    pause Command::Pause;
    resume Command::Resume;
    advance Command::Advance;
    abort Command::Abort;
    retry Command::Retry;
    promote Command::Promote;
    roll_back Command::Rollback { to: None };
}

pub async fn set_weight(
    State(state): State<AdminState>,
    ordered: Ordered,
    Read(WeightRequest { weight, reason }): Read<WeightRequest>,
) -> Result<Response, Problem> {
    let weight = weight.ok_or_else(|| Problem::bad_request("the body has no weight"))?;
    act(&state, ordered, reason, Command::SetWeight(weight)).await
}

pub async fn roll_back_agent(
    State(state): State<AdminState>,
    ordered: Ordered,
    Read(mut request): Read<RollbackRequest>,
) -> Result<Response, Problem> {
    let reason = request.reason.take();
    act(&state, ordered, reason, Command::Rollback { to: request.target() }).await
}

pub async fn emergency(
    State(state): State<AdminState>,
    OrderedAll(terms): OrderedAll,
    Read(EmergencyRequest { environment, reason }): Read<EmergencyRequest>,
) -> Result<Json<Vec<Done>>, Problem> {
    let environment = environment.ok_or_else(|| Problem::bad_request("the body has no environment"))?;
    let dry_run = terms.dry_run;
    let done = state.control.emergency_rollback(&EnvironmentId::new(environment), terms.order(reason)).await?;
    Ok(Json(done.iter().map(|done| Done::new(done, dry_run)).collect()))
}

async fn act(
    state: &AdminState,
    ordered: Ordered,
    reason: Option<String>,
    command: Command,
) -> Result<Response, Problem> {
    let dry_run = ordered.terms.dry_run;
    order(state, ordered, reason, command).await.map(|done| answer(&done, dry_run))
}

async fn order(
    state: &AdminState,
    ordered: Ordered,
    reason: Option<String>,
    command: Command,
) -> Result<command::Done, Problem> {
    let key = ordered.place.key(&state.control.table().load_full())?;
    let id = ordered.place.deployment.map(DeploymentId::new);
    Ok(state.control.order(&key, id.as_ref(), command, ordered.terms.order(reason)).await?)
}

fn answer(done: &command::Done, dry_run: bool) -> Response {
    ([(header::ETAG, etag(done.revision))], Json(Done::new(done, dry_run))).into_response()
}

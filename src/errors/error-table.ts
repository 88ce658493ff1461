/**
 * What a worker does with a job that failed with a code.
 * - `never`: trying again can't help; it goes to the dead-letter queue.
 * - `soon`: a few attempts within seconds.
 * - `later`: attempts spread over hours, as the retry settings say.
 * - `release`: not the job's doing; it is handed back, and no attempt is counted.
 * - `defer`: its host asked to slow down; handed back until the host is ready, for up to a day.
 */
export type Retry = 'never' | 'soon' | 'later' | 'release' | 'defer';

/**
 * The one table of failures. Each code says how HTTP reports it, whether and when trying the same job again can help,
 * and what the person who meets it should do next.
 */
export interface ErrorDefinition {
  /** HTTP status of a response that carries this code. */
  readonly status: number;
  readonly retry: Retry;
  readonly title: string;
  readonly suggestion: string;
}

const define = (status: number, retry: Retry, title: string, suggestion: string): ErrorDefinition => ({
  status,
  retry,
  title,
  suggestion,
});

export const ERRORS = {
  // Requests
  invalid_request: define(
    400,
    'never',
    'Invalid request',
    'Correct the named fields and send it again; /docs shows each one.',
  ),
  invalid_json: define(
    400,
    'never',
    'Invalid JSON',
    'Send one JSON document in UTF-8, or NDJSON with Content-Type: application/x-ndjson.',
  ),
  body_too_large: define(
    413,
    'never',
    'Body too large',
    'Send fewer jobs a request, smaller images, or image_url instead of inline bytes.',
  ),
  unsupported_media_type: define(
    415,
    'never',
    'Unsupported media type',
    'Send application/json, application/x-ndjson or multipart/form-data.',
  ),
  route_not_found: define(404, 'never', 'No such address', 'See /docs for the addresses that exist.'),
  method_not_allowed: define(
    405,
    'never',
    'Method not allowed',
    'Use one of the methods that the Allow header names; see /docs.',
  ),
  cross_origin_refused: define(
    403,
    'never',
    'Request from another site refused',
    "Send the request from a program, or from a page of Vitrine's own address.",
  ),
  api_key_required: define(
    401,
    'never',
    'An API key is required',
    'Send a key as `Authorization: Bearer KEY` or `X-API-Key: KEY`; commands take it from VITRINE_API_KEY.',
  ),
  api_key_invalid: define(
    401,
    'never',
    'The API key is not valid',
    'Check the key and that the server knows it; `vitrine keys create NAME` makes a new one.',
  ),
  scope_missing: define(
    403,
    'never',
    'The API key may not do this',
    'Use a key with one of the scopes that are named.',
  ),
  host_not_allowed: define(
    421,
    'never',
    'The server does not answer to this host name',
    'Use localhost or 127.0.0.1, set PUBLIC_URL to the address that people use, or set API keys.',
  ),
  rate_limited: define(429, 'soon', 'Too many requests', 'Wait for the seconds in Retry-After.'),
  server_busy: define(503, 'soon', 'The server is busy', 'Send it again after the seconds in Retry-After.'),
  anonymous_not_allowed: define(
    500,
    'never',
    'The API would be open to everyone',
    '`vitrine keys create NAME` makes an API key; or leave HOST at 127.0.0.1.',
  ),
  job_not_found: define(
    404,
    'never',
    'No such job',
    'Check the id; the status of a job is kept for 24 hours after it has ended.',
  ),
  job_expired: define(
    404,
    'never',
    'The job is no longer kept',
    'It has ended. ENDED_TTL_HOURS and MAX_ENDED say how long, and how many, ended jobs are kept.',
  ),
  product_not_found: define(
    404,
    'never',
    'No such product',
    'Check the id (percent-encode it), or enqueue an image of the product first.',
  ),
  thumbnail_not_found: define(
    404,
    'never',
    'The image has no thumbnail',
    'Enqueue the image again to have one made. THUMBNAIL_CACHE_DIR must be a folder that the API and the workers share.',
  ),
  job_already_ended: define(
    409,
    'never',
    'Job already ended',
    'Enqueue the product image again to process it again.',
  ),
  job_not_dead: define(
    409,
    'never',
    'Job is not in the dead-letter queue',
    'Only a failed job can be retried; see its status.',
  ),
  idempotency_conflict: define(
    409,
    'never',
    'Idempotency key used for another request',
    'Use a new Idempotency-Key for a new request.',
  ),
  flush_not_allowed: define(
    403,
    'never',
    'Flush is not allowed',
    'Start the API with ALLOW_FLUSH=true to permit it.',
  ),
  queue_full: define(
    429,
    'release',
    'The queue is full',
    'Wait for the seconds in Retry-After, add workers, or raise MAX_PENDING.',
  ),
  text_not_supported: define(
    422,
    'never',
    'The model has no text encoder',
    'Search by words, image or product_id, or choose a model with a text encoder.',
  ),

  // Dependencies
  queue_unavailable: define(
    503,
    'release',
    'The queue is unreachable',
    'Check that Redis is up and REDIS_URL or REDIS_HOST is right. `vitrine doctor` shows more.',
  ),
  queue_unsafe: define(
    503,
    'release',
    'The queue could lose jobs',
    'Set maxmemory-policy to noeviction in redis.conf, or with `redis-cli CONFIG SET maxmemory-policy noeviction`.',
  ),
  queue_format: define(
    500,
    'never',
    'The queue was written by another version of Vitrine',
    'Drain the queue with the version that wrote it, then start this one; or use another QUEUE_PREFIX or DATA_DIR.',
  ),
  queue_refused: define(
    500,
    'never',
    'The queue could not store what it was sent',
    'This is a fault of Vitrine: report it with the log line that has the same request or job id.',
  ),
  spool_full: define(
    503,
    'release',
    'The queue is unreachable and its spool is full',
    'Bring Redis back; it then takes what was spooled. SPOOL_MAX_MB sets how much may wait.',
  ),
  store_unavailable: define(
    503,
    'release',
    'The vector store is unreachable',
    'Check that Qdrant is up and QDRANT_URL and QDRANT_API_KEY are right. `vitrine doctor` shows more.',
  ),
  store_rejected: define(
    500,
    'never',
    'The vector store refused the request',
    "See the store's log; the collection may not be of this model.",
  ),
  model_unavailable: define(
    503,
    'release',
    'The model could not be loaded',
    'Check MODEL and MODELS_DIR. `vitrine doctor` shows more.',
  ),
  device_unavailable: define(
    503,
    'release',
    'The device for inference could not be used',
    'docs/models.md says what each device needs. EMBEDDING_DEVICE=cpu works everywhere.',
  ),
  model_mismatch: define(
    409,
    'never',
    'The collection is of another model',
    "Set MODEL to the collection's model, or QDRANT_COLLECTION to a new name.",
  ),
  invalid_configuration: define(
    500,
    'never',
    'Invalid configuration',
    'Correct the named settings; docs/configuration.md lists them all.',
  ),
  not_ready: define(503, 'release', 'Not ready', 'Wait a moment; /health tells what is missing.'),
  server_unreachable: define(
    503,
    'soon',
    'No Vitrine server answers',
    'Start one with `vitrine serve`, or name another one with --server.',
  ),
  listen_failed: define(
    500,
    'never',
    'The server could not listen',
    'Stop the program that uses the port, or set HOST and PORT to a free address.',
  ),
  internal_error: define(
    500,
    'soon',
    'Internal error',
    "Try again; if it stays, look up the request id in the server's log.",
  ),

  // Images
  image_url_invalid: define(
    422,
    'never',
    'The image URL is not usable',
    'Give an absolute http or https URL without credentials, or a base64 data: URL.',
  ),
  image_address_blocked: define(
    422,
    'never',
    'The image address is not allowed',
    'Use a public address, or name the host in IMAGE_ALLOWED_HOSTS or its network in IMAGE_ALLOWED_NETWORKS.',
  ),
  image_not_found: define(
    422,
    'never',
    'The image does not exist',
    'Check the URL or path; the server answered that nothing is there.',
  ),
  image_access_denied: define(
    422,
    'never',
    'The image server refused access',
    'Make the image readable without credentials, set IMAGE_SOURCE_HEADERS for its host (sent over https), or send its bytes.',
  ),
  image_server_error: define(
    502,
    'later',
    'The image server failed',
    'It is retried; check the image server if it stays.',
  ),
  image_host_busy: define(
    503,
    'defer',
    'The image host asked to slow down',
    'Nothing to do: its images are fetched more slowly, for up to a day. Ask the host for a higher limit if that is too slow.',
  ),
  image_host_slow: define(
    503,
    'defer',
    'The image host is slow',
    'Nothing to do: its images are fetched as it sends them, for up to a day, while those of other hosts go on.',
  ),
  image_host_unknown: define(
    422,
    'soon',
    'The image host does not exist',
    'Correct the host name in the image URL.',
  ),
  image_fetch_failed: define(
    502,
    'later',
    'The image could not be fetched',
    'It is retried; check the host name and the network if it stays.',
  ),
  image_fetch_timeout: define(
    504,
    'later',
    'Fetching the image took too long',
    'It is retried; raise IMAGE_TIMEOUT_MS for slow servers.',
  ),
  image_path_forbidden: define(
    422,
    'never',
    'The image path is not allowed',
    'Use a path inside one of IMAGE_ROOTS.',
  ),
  image_too_large: define(
    422,
    'never',
    'The image has too many bytes',
    'Send a smaller file, or raise IMAGE_MAX_BYTES.',
  ),
  image_too_many_pixels: define(
    422,
    'never',
    'The image has too many pixels',
    'Send a smaller picture, or raise IMAGE_MAX_PIXELS.',
  ),
  image_too_complex: define(
    422,
    'never',
    'Decoding the image takes too much work',
    'Save it again as a plain JPEG or PNG with one frame and no more than one colour profile.',
  ),
  image_decode_timeout: define(
    422,
    'never',
    'Decoding the image takes too long',
    'Save it again as a plain JPEG or PNG. If many images end like this, the machine is too slow or too busy.',
  ),
  image_decoder_crashed: define(
    500,
    'soon',
    'The image ended the process that decodes it',
    'It is retried; if it stays, save the image again in another program.',
  ),
  image_too_small: define(
    422,
    'never',
    'The image is too small',
    'Send a larger picture, or lower IMAGE_MIN_SIDE_PIXELS.',
  ),
  image_aspect_ratio: define(
    422,
    'never',
    'The image is too long and thin',
    'Crop the picture to the product.',
  ),
  image_blank: define(422, 'never', 'The image is blank', 'Send a picture that shows the product.'),
  image_placeholder: define(
    422,
    'never',
    'The image is a known placeholder',
    'Send a picture of the product; PLACEHOLDER_HASHES lists the placeholders.',
  ),
  image_unsupported: define(
    422,
    'never',
    'Not a supported image',
    'Send JPEG, PNG, WebP, AVIF, GIF or TIFF.',
  ),
  image_encoded: define(
    422,
    'never',
    'The image was sent compressed',
    'Make its server send image files as they are, without Content-Encoding, or send the bytes.',
  ),
  image_corrupt: define(
    422,
    'never',
    'The image is damaged',
    'Open the file, save it again and send it again.',
  ),

  // Webhooks
  webhooks_not_configured: define(
    422,
    'later',
    'There is no secret to sign webhooks with',
    'Set WEBHOOK_SECRETS for the API and the workers, or leave out callback_url.',
  ),
  webhook_failed: define(
    502,
    'later',
    'The webhook could not be delivered',
    'It is repeated for a day; check the receiver, then redrive it from the dead-letter queue.',
  ),
  webhook_busy: define(
    503,
    'defer',
    'The webhook receiver is slow or asked to slow down',
    'Answer 2xx before doing the work. It is repeated for a day, and others to the same host wait.',
  ),
  webhook_gone: define(
    502,
    'never',
    'The webhook receiver wants no more',
    'It answered 410. Enqueue with another callback_url.',
  ),
  webhook_address_blocked: define(
    422,
    'never',
    'The callback address is not allowed',
    'Use a public address, or name the host in WEBHOOK_ALLOWED_HOSTS.',
  ),

  // Processing
  embedding_failed: define(
    500,
    'soon',
    'The embedding failed',
    "It is retried; see the worker's log if it stays.",
  ),
  embedding_thread_crashed: define(
    500,
    'soon',
    'The embedding thread ended',
    'It is restarted and the job retried; give the worker more memory if it stays.',
  ),
  embedding_timed_out: define(
    504,
    'release',
    'The embedding did not finish in time',
    'The embedding thread was replaced and the job handed back; use a smaller BATCH_SIZE or model if it stays.',
  ),
  embedding_invalid: define(
    500,
    'never',
    'The model gave an unusable vector',
    'Check the model with `vitrine models verify`.',
  ),
  job_timed_out: define(
    504,
    'later',
    'The job took too long',
    'It is retried; raise JOB_SOFT_TIMEOUT_MS if the images are large.',
  ),
  job_out_of_time: define(
    504,
    'never',
    'The job ran out of its whole time',
    'Raise JOB_HARD_TIMEOUT_MS, or find out what makes the image slow.',
  ),
  worker_stuck: define(
    500,
    'release',
    'The worker is stuck',
    'Work that never returned holds all of its slots: check the file systems under IMAGE_ROOTS and the vector store, and start it again.',
  ),
  job_poison: define(
    500,
    'never',
    'The job ended its worker several times',
    'Look at the image: it ends the process that decodes it.',
  ),
  job_unreadable: define(
    500,
    'never',
    'The stored job could not be read',
    'Enqueue the product image again.',
  ),
  settlement_refused: define(
    500,
    'never',
    'The result of the job could not be stored',
    "See the worker's log for the reason, and enqueue the product image again.",
  ),
} as const satisfies Record<string, ErrorDefinition>;

export type ErrorCode = keyof typeof ERRORS;

import type { z } from '@hono/zod-openapi';
import type { previewReply } from '../../feeds/schemas.ts';
import type { health } from '../../http/health-schema.ts';
import type { settings } from '../../http/settings-routes.ts';
import type { jobPage, jobView, queueStats, worker, workerList } from '../../jobs/schemas.ts';
import type { queueHistory } from '../../monitor/schemas.ts';
import type { deletedProduct, productPage, productView } from '../../products/schemas.ts';
import type { searchReply } from '../../search/schemas.ts';

// The shapes of the public API, from the schemas that its document is made of. Types alone: nothing is loaded.

export type Job = z.output<typeof jobView>;
export type JobPage = z.output<typeof jobPage>;
export type QueueStats = z.output<typeof queueStats>;
export type Worker = z.output<typeof worker>;
export type WorkerList = z.output<typeof workerList>;
export type QueueHistory = z.output<typeof queueHistory>;
export type Settings = z.output<typeof settings>;
export type Health = z.output<typeof health>;
export type SearchReply = z.output<typeof searchReply>;
export type Hit = SearchReply['hits'][number];
export type Product = z.output<typeof productView>;
export type ProductPage = z.output<typeof productPage>;
export type DeletedProduct = z.output<typeof deletedProduct>;
export type FeedPreview = z.output<typeof previewReply>;
export type Payload = Hit['payload'];

import { createRoute, z } from '@hono/zod-openapi';
import type { Config } from '../config/config.ts';
import { TOPICS } from '../config/settings.ts';
import { problems } from '../routing/problem.ts';
import { type ApiRouter, createRouter } from '../routing/router.ts';

export const settings = z
  .object({
    settings: z.array(
      z.object({
        name: z.string().openapi({ example: 'BATCH_SIZE' }),
        topic: z.string().openapi({ example: 'Workers' }),
        meaning: z.string(),
        value: z.string().nullable().openapi({
          description:
            'Null when it is not set, and for every secret. Passwords and queries of addresses are left out.',
        }),
        is_default: z.boolean(),
        is_secret: z.boolean(),
      }),
    ),
  })
  .openapi('Settings');

const settingsRoute = createRoute({
  method: 'get',
  path: '/settings',
  tags: ['Health'],
  summary: 'The settings of the API process that answers',
  description: 'Secrets only say whether they are set: `is_default` is false then.',
  responses: {
    200: { description: 'The settings', content: { 'application/json': { schema: settings } } },
    ...problems(),
  },
});

export function createSettingsRoutes(config: Pick<Config, 'shown'>): ApiRouter {
  const routes = createRouter();
  routes.openapi(settingsRoute, (c) =>
    c.json(
      {
        settings: config.shown.map(({ name, topic, meaning, value, isDefault, isSecret }) => ({
          name,
          topic: TOPICS[topic],
          meaning,
          value,
          is_default: isDefault,
          is_secret: isSecret,
        })),
      },
      200,
    ),
  );
  return routes;
}

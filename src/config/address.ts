/** Where the API listens unless HOST and PORT say otherwise. Apart from the settings: commands need it at once. */
export const DEFAULT_HOST = '127.0.0.1';
export const DEFAULT_PORT = '8000';

import { defineConfig } from "vite";

export default defineConfig({
  esbuild: { jsx: "automatic", jsxImportSource: "preact" },
  build: { target: "es2022", assetsDir: "page", assetsInlineLimit: 0, modulePreload: false, sourcemap: false },
});

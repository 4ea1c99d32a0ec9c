import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

// The server of `npm run dev` passes what is not the page's to a running `sextant up`.
const api = process.env.SEXTANT_API ?? "http://127.0.0.1:7780";

export default defineConfig({
  plugins: [react()],
  build: {
    outDir: "dist",
    assetsDir: "page",
    assetsInlineLimit: 0, // the policy allows no inline scripts
    manifest: "vite.json",
    modulePreload: { polyfill: false },
    target: "es2022",
    cssCodeSplit: true,
    reportCompressedSize: false,
    chunkSizeWarningLimit: 1000, // tests/page/test_build.py holds the budget, compressed
  },
  server: { proxy: { "/api": { target: api, changeOrigin: true } } },
});

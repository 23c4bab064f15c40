# tinyvox.wasm: the C API for web pages, by emscripten. It needs no JavaScript of emscripten's:
# web/lib/system.js has the few functions that it calls. There are no files to map and no threads.
file(STRINGS web/exports.txt exported)
list(TRANSFORM exported PREPEND _)
list(JOIN exported , exported)

add_executable(tinyvox_web ${c_api})
target_link_libraries(tinyvox_web PRIVATE tinyvox_core)
target_include_directories(tinyvox_web PRIVATE native/include)
target_link_options(tinyvox_web PRIVATE --no-entry -sSTANDALONE_WASM -sALLOW_MEMORY_GROWTH
                    -sINITIAL_MEMORY=4MB -sTOTAL_STACK=1MB -sEXPORTED_FUNCTIONS=${exported})
set_target_properties(tinyvox_web PROPERTIES OUTPUT_NAME tinyvox SUFFIX .wasm
                      LINK_DEPENDS ${CMAKE_CURRENT_LIST_DIR}/exports.txt)

# Of the native tests, that of the kernels; web/tools/run.mjs runs it.
if(TINYVOX_TESTS)
  add_executable(web_test_kernels native/tests/test_kernels.cc native/tests/check_matrices.cc
                 native/tests/check_vectors.cc)
  target_link_libraries(web_test_kernels PRIVATE tinyvox_core)
  target_link_options(web_test_kernels PRIVATE -sSTANDALONE_WASM -sALLOW_MEMORY_GROWTH)
  set_target_properties(web_test_kernels PROPERTIES OUTPUT_NAME test_kernels SUFFIX .wasm)
endif()
